/* A disk that fails on demand, for nodes that are forked from a process with this library in LD_PRELOAD.
 *
 * FAULTS_FILE names a file of rules, one a line, read again at each call:
 *
 *     CALL PART hang           the call does not return while the rule stands
 *     CALL PART delay MS       the call takes so much longer
 *     CALL PART fail ERRNO     the call fails, and does nothing
 *
 * CALL is sync (fdatasync, fsync), write (write, pwrite, pwritev) or allocate (posix_fallocate); PART is a part of
 * the path of the file. The first rule that fits counts. Each fitting call leaves its name in FAULTS_FILE.hits.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms) {
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

static void note(const char *file, const char *call) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.hits", file);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, call, strlen(call));
    syscall(SYS_write, fd, "\n", 1);
    close(fd);
}

/* The action of the first rule that fits, into `action` and `number`; 0 when none does. */
static int rule_for(const char *file, const char *call, const char *path, char *action, long *number) {
    char rules[4096];
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    ssize_t size = syscall(SYS_read, fd, rules, sizeof rules - 1);
    close(fd);
    if (size <= 0) return 0;
    rules[size] = 0;
    char *rest = NULL;
    for (char *line = strtok_r(rules, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char which[16], part[1024];
        *number = 0;
        if (sscanf(line, "%15s %1023s %15s %ld", which, part, action, number) < 3) continue;
        if (!strcmp(which, call) && strstr(path, part)) return 1;
    }
    return 0;
}

/* 0 to go on with the call, else the errno it fails with. */
static int verdict(const char *call, int fd) {
    const char *file = getenv("FAULTS_FILE");
    if (!file) return 0;
    char link[64], path[PATH_MAX], action[16];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    long number;
    int noted = 0;
    while (rule_for(file, call, path, action, &number)) {
        if (!noted) note(file, call);
        noted = 1;
        if (!strcmp(action, "fail")) return (int)number;
        if (!strcmp(action, "delay")) {
            pause_ms(number);
            return 0;
        }
        pause_ms(5);
    }
    return 0;
}

#define WRAP(call, type, name, parameters, ...)                                                             \
    type name parameters {                                                                                  \
        static type(*real) parameters;                                                                      \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                      \
        int saved = errno, failure = verdict(call, fd);                                                     \
        errno = failure ? failure : saved;                                                                  \
        return failure ? -1 : real(__VA_ARGS__);                                                            \
    }

WRAP("sync", int, fdatasync, (int fd), fd)
WRAP("sync", int, fsync, (int fd), fd)
WRAP("write", ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
WRAP("write", ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
WRAP("write", ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
WRAP("write", ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
WRAP("write", ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), fd, v, n, at)
WRAP("write", ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int f), fd, v, n, at, f)
WRAP("write", ssize_t, pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int f), fd, v, n, at, f)

#define WRAP_ALLOCATE(name, offset)                                                                         \
    int name(int fd, offset at, offset size) {                                                              \
        static int (*real)(int, offset, offset);                                                            \
        if (!real) real = (int (*)(int, offset, offset))dlsym(RTLD_NEXT, #name);                            \
        int failure = verdict("allocate", fd);                                                              \
        return failure ? failure : real(fd, at, size);                                                      \
    }

WRAP_ALLOCATE(posix_fallocate, off_t)
WRAP_ALLOCATE(posix_fallocate64, off64_t)
