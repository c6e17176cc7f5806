"""The top of the screen: where we look from, whether writes go on, what is broken since when, what comes."""

from __future__ import annotations

from tools import figures
from tools.condition.problems import Kind, Problem
from tools.condition.tone import Tone
from tools.condition.trouble import Trouble
from tools.monitor.ink import SYMBOLS, Line, Span, cut_line, fitting, marked, spread
from tools.monitor.watch import View

PROBLEMS_SHOWN = 3
"""With the lines on writes and on what is next this leaves 14 of 24 lines to a tab."""


def title(view: View, width: int) -> list[Line]:
    """One line: cluster, who leads, who answers, as whom, and the time there. Where there is no room for all
    of it, the term goes first, then the watermark, then who answers.
    """
    if view.waiting:
        return [(Span(" redwire monitor", Tone.STRONG),)]
    status = view.status
    role = f"{view.role or 'role ?'}" + ("" if view.may_change else ", not admin")
    clock = f"{figures.clock(view.now_ms)} UTC" if view.now_ms else "time ?"
    right = (Span(f"{role}  ", Tone.DIM), Span(f"{clock} "))
    left = [
        (0, Span(f" {status.cluster.name or status.cluster.id or 'a cluster without a name'}", Tone.STRONG))
    ]
    if status.primary.state == "leading":
        left.append((0, Span(f"  primary {status.primary.node}")))
        left += [] if status.term is None else [(3, Span(f" term {status.term}"))]
        left.append((2, Span(f"  LSN {figures.count(status.watermark)}")))
    left.append((1, Span(f"  seen from {status.vantage.node or view.addr}", Tone.DIM)))
    if view.newer:
        left.append((0, Span(f"  {SYMBOLS[Tone.WARN]} schema {status.schema} is newer than this", Tone.WARN)))
    return [spread(fitting(left, width - 1 - sum(span.cells for span in right)), right, width)]


def headline(view: View, width: int) -> list[Line]:
    """Two lines and up to `PROBLEMS_SHOWN` on what is broken; how many more there are is said."""
    if view.waiting:
        return _waiting(view, width)
    lines = _writes(view, width)
    room = PROBLEMS_SHOWN + 1 - len(lines) - bool(view.notice)
    if view.notice:
        lines.append(cut_line((marked(view.notice, Tone.WARN),), width))
    shown = [problem for problem in view.problems if problem.kind is not Kind.QUORUM]
    if len(shown) > room:
        rest = shown[room - 1 :]
        shown = shown[: room - 1]
        lines += [_problem(view, problem, width) for problem in shown]
        tone = Tone.BAD if any(problem.tone is Tone.BAD for problem in rest) else Tone.WARN
        names = "; ".join(problem.text for problem in rest)
        lines.append(cut_line((marked(f"and {len(rest)} more: {names}", tone),), width))
    else:
        lines += [_problem(view, problem, width) for problem in shown]
    lines.append(_next(view, width))
    return lines


def _waiting(view: View, width: int) -> list[Line]:
    if not view.notice:
        return [(marked("asking for the first document", Tone.PLAIN),)]
    silent = figures.duration(view.silent_ms)
    first = f"no node answers, for {silent} by now; trying on"
    return [(marked(first, Tone.BAD),), cut_line((Span(f"  {view.notice}"),), width)]


def _writes(view: View, width: int) -> list[Line]:
    """Whether writes go on: one line, or two where there is no room for the reason beside since when."""
    quorum, policy = view.status.quorum, view.status.settings.policy or figures.UNKNOWN
    if view.silent_ms is not None:
        return [(marked("WRITES ?", Tone.DIM), Span(f"  last word {figures.duration(view.silent_ms)} ago"))]
    if quorum.met is None:
        line = (marked("WRITES ?", Tone.WARN), Span(f"  not known from here; policy {policy}"))
        return [cut_line(line, width)]
    if not quorum.met:
        return _refused(view, policy, width)
    by = f", completed mostly by {quorum.completed_by}" if quorum.completed_by else ""
    rate = figures.count(view.status.commits.rate)
    ranked = [
        (0, marked("WRITES GO ON", Tone.GOOD)),
        (0, Span(f"  {policy} is met")),
        (1, Span(by)),
        (2, Span(f"  {rate} commits/s", Tone.DIM)),
    ]
    return [fitting(ranked, width)]


def _refused(view: View, policy: str, width: int) -> list[Line]:
    problem = next(problem for problem in view.problems if problem.kind is Kind.QUORUM)
    said, when = marked("WRITES REFUSED", Tone.BAD), Span(since(view, problem), Tone.STRONG)
    why, by = Span(f"  {view.status.quorum.why or 'no reason given'}"), Span(f"  policy {policy}", Tone.DIM)
    if sum(span.cells for span in (said, why, when)) + 2 <= width:
        return [fitting([(0, said), (0, why), (0, Span("  ")), (0, when), (1, by)], width)]
    return [spread((said, by), (when,), width), cut_line((why,), width)]


def _problem(view: View, problem: Problem, width: int) -> Line:
    when = since(view, problem)
    return spread((marked(problem.text, problem.tone),), (Span(when, Tone.STRONG),), width)


def since(view: View, problem: Problem) -> str:
    """Since when, and how long that is; "?" where nobody knows."""
    at_ms = problem.since_at_ms
    if at_ms is None:
        return f"since {figures.UNKNOWN}"
    before = " or before" if problem.key in view.before else ""
    lasted = "" if view.now_ms is None else f" ({figures.duration(max(0, view.now_ms - at_ms))})"
    return f"since {figures.moment(at_ms, view.now_ms)}{lasted}{before}"


def _next(view: View, width: int) -> Line:
    coming = next((each for each in view.troubles if each.in_ms > 0 and each.tone is not Tone.PLAIN), None)
    if coming is None:
        calm = "nothing in sight" if not view.problems else "nothing beyond that"
        return (Span("  next ", Tone.DIM), Span(calm, Tone.DIM))
    return cut_line((Span("  next ", Tone.DIM), *_coming(coming)), width)


def _coming(coming: Trouble) -> Line:
    when = Span(f"in {figures.duration(coming.in_ms)}  ", Tone.STRONG)
    return (when, marked(f"{coming.node} {coming.text}", coming.tone))
