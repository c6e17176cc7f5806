// The JavaScript driver's wire behaviour on a real JavaScript runtime, without anything from outside it.
//
// Reads a scenario's settings as JSON from the command line, plays it, and prints what came back as JSON.
// As the driver does: nothing waits for its turn, and answers belong to requests by their order alone.

import { readFileSync } from 'node:fs'
import { connect } from 'node:tls'

const Kind = {
  Query: 0x01, Result: 0x02, Error: 0x03, BulkInsert: 0x04, BulkOk: 0x05, BulkInsertBinary: 0x06,
  QueryBinary: 0x07, Hello: 0x10, HelloAck: 0x11, AuthResponse: 0x13, AuthOk: 0x14, AuthFail: 0x15,
  Bye: 0x16, Ping: 0x17, Pong: 0x18, Get: 0x19, Delete: 0x1a, DeleteOk: 0x1b, QueryWithParams: 0x28,
}
const HEADER = 16

class Frames {
  #held = Buffer.alloc(0)
  #waiting = []
  #ended = null

  constructor(socket) {
    socket.on('data', (data) => {
      this.#held = Buffer.concat([this.#held, data])
      this.#deliver()
    })
    socket.on('error', (error) => this.#end(error))
    socket.on('close', () => this.#end(new Error('connection closed')))
  }

  next() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#deliver()
    })
  }

  #deliver() {
    while (this.#waiting.length > 0 && this.#held.length >= HEADER) {
      const length = this.#held.readUInt32LE(0)
      if (this.#held.length < length) break
      const payload = this.#held.subarray(HEADER, length)
      const frame = { kind: this.#held[4], flags: this.#held[5], payload }
      this.#held = this.#held.subarray(length)
      this.#waiting.shift().resolve(frame)
    }
    if (this.#ended && this.#held.length === 0) {
      for (const each of this.#waiting.splice(0)) each.reject(this.#ended)
    }
  }

  #end(error) {
    this.#ended ??= error
    this.#deliver()
  }
}

class Client {
  #correlation = 0n

  static async open({ host, port, ca, token }) {
    const socket = connect({ host, port, ca: readFileSync(ca), ALPNProtocols: ['redwire/1'] })
    await new Promise((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
    })
    const client = new Client()
    client.socket = socket
    client.frames = new Frames(socket)
    socket.write(Uint8Array.from([0xfe, 0x01]))
    const methods = token ? ['bearer'] : ['anonymous', 'bearer']
    client.write(Kind.Hello, json({ versions: [1], auth_methods: methods, features: 0, client_name: 'node' }))
    const ack = await client.expect(Kind.HelloAck)
    client.method = ack.auth
    client.write(Kind.AuthResponse, client.method === 'bearer' ? json({ token }) : Buffer.alloc(0))
    client.session = await client.expect(Kind.AuthOk)
    client.#correlation = 0n
    return client
  }

  write(kind, payload) {
    const header = Buffer.alloc(HEADER)
    header.writeUInt32LE(HEADER + payload.length, 0)
    header[4] = kind
    this.#correlation += 1n
    header.writeBigUInt64LE(this.#correlation, 8)
    this.socket.write(Buffer.concat([header, payload]))
  }

  async answer(kind) {
    const frame = await this.frames.next()
    if (frame.flags !== 0) throw new Error(`flags ${frame.flags}`)
    if (frame.kind === kind) return frame.payload
    const text = frame.payload.toString()
    if (frame.kind === Kind.AuthFail) throw new Error(`AUTH_REFUSED: ${JSON.parse(text).reason}`)
    throw new Error(frame.kind === Kind.Error ? text : `unexpected kind ${frame.kind}`)
  }

  async expect(kind) {
    return JSON.parse((await this.answer(kind)).toString())
  }

  ping() {
    this.write(Kind.Ping, Buffer.alloc(0))
    return this.answer(Kind.Pong).then(() => 'pong')
  }

  async insert(collection, payload) {
    this.write(Kind.BulkInsert, json({ collection, payload }))
    const result = await this.expect(Kind.BulkOk)
    if (result.rid == null && result.id == null) throw new Error('ENGINE_TOO_OLD')
    return result.rid ?? result.id
  }

  async bulkInsert(collection, payloads) {
    this.write(Kind.BulkInsert, json({ collection, payloads }))
    const result = await this.expect(Kind.BulkOk)
    const ids = result.rids ?? result.ids
    if (!Array.isArray(ids) || ids.length !== payloads.length) throw new Error('INVALID_RESPONSE')
    return ids
  }

  async bulkInsertBinary(collection, columns, rows) {
    const parts = [short(collection), u16(columns.length), ...columns.map(short), u32(rows.length), ...rows]
    this.write(Kind.BulkInsertBinary, Buffer.concat(parts))
    const payload = await this.answer(Kind.BulkOk)
    if (payload.length < 8) throw new Error('BulkOk truncated')
    return Number(payload.readBigUInt64LE(0))
  }

  get(collection, id) {
    this.write(Kind.Get, json({ collection, id: String(id) }))
    return this.expect(Kind.Result)
  }

  delete(collection, id) {
    this.write(Kind.Delete, json({ collection, id: String(id) }))
    return this.expect(Kind.DeleteOk)
  }

  // JSON if it is, else the binary form
  async query(sql, ...params) {
    if (params.length === 0) {
      this.write(/^\s*select\b/i.test(sql) ? Kind.QueryBinary : Kind.Query, Buffer.from(sql))
    } else {
      if ((this.session.features & 1) !== 1) throw new Error('PARAMS_UNSUPPORTED')
      const text = Buffer.from(sql)
      const parts = [u32(text.length), text, u32(params.length), ...params.map(value)]
      this.write(Kind.QueryWithParams, Buffer.concat(parts))
    }
    const payload = await this.answer(Kind.Result)
    let result
    try {
      result = JSON.parse(payload.toString())
    } catch {
      return binaryRows(payload)
    }
    return result.result?.records?.map((record) => record.values) ?? result.rows
  }

  bye() {
    this.write(Kind.Bye, Buffer.alloc(0))
    return this.answer(Kind.Bye).then(() => this.frames.next()).then(
      () => 'a frame after Bye',
      (error) => error.message,
    )
  }
}

const json = (object) => Buffer.from(JSON.stringify(object))
const u16 = (number) => { const out = Buffer.alloc(2); out.writeUInt16LE(number); return out }
const u32 = (number) => { const out = Buffer.alloc(4); out.writeUInt32LE(number); return out }
const i64 = (number) => { const out = Buffer.alloc(8); out.writeBigInt64LE(BigInt(number)); return out }
const f64 = (number) => { const out = Buffer.alloc(8); out.writeDoubleLE(number); return out }
const short = (text) => Buffer.concat([u16(Buffer.byteLength(text)), Buffer.from(text)])
const long = (bytes) => Buffer.concat([u32(bytes.length), bytes])
const tagged = (tag, ...rest) => Buffer.concat([Uint8Array.of(tag), ...rest])

function value(v) {
  if (v == null) return tagged(0)
  if (typeof v === 'boolean') return tagged(1, Uint8Array.of(v ? 1 : 0))
  if (typeof v === 'bigint') return tagged(2, i64(v))
  if (typeof v === 'number') return Number.isInteger(v) ? tagged(2, i64(v)) : tagged(3, f64(v))
  if (typeof v === 'string') return tagged(4, long(Buffer.from(v)))
  if (v instanceof Date) return tagged(8, i64(BigInt(v.getTime()) * 1_000_000n))
  if (v instanceof Uint8Array) return tagged(5, long(v))
  if (Array.isArray(v)) return tagged(6, u32(v.length), Buffer.from(Float32Array.from(v).buffer))
  return tagged(7, long(json(v)))
}

function binaryRows(payload) {
  let at = 0
  const take = (count) => payload.subarray(at, (at += count))
  const number = (big) => (Number.isSafeInteger(Number(big)) ? Number(big) : String(big))
  const read = {
    0: () => null,
    1: () => number(take(8).readBigInt64LE()),
    2: () => take(8).readDoubleLE(),
    3: () => take(take(4).readUInt32LE()).toString(),
    4: () => take(1)[0] !== 0,
    5: () => number(take(8).readBigUInt64LE()),
  }
  const columns = Array.from({ length: take(2).readUInt16LE() }, () => take(take(2).readUInt16LE()).toString())
  return Array.from({ length: take(4).readUInt32LE() }, () =>
    Object.fromEntries(columns.map((column) => [column, read[take(1)[0]]()])))
}

const failure = (promise) => promise.then(() => 'no error', (error) => error.message)

const settings = JSON.parse(process.argv[2])
const { collection } = settings
const out = {}

const stranger = await Client.open({ ...settings, token: null })
out.stranger = [stranger.method, stranger.session.username, await stranger.ping(), await stranger.bye()]
out.refused = await failure(Client.open({ ...settings, token: 'rw_nobody' }))

const db = await Client.open(settings)
out.session = [db.method, db.session.username, db.socket.alpnProtocol, db.session.session_id.length > 0]
const exact = { id: 'lamp', big: { $int: '9007199254740993' }, text: 'héllo \u2028' }
out.ids = [await db.insert(collection, exact), typeof (await db.insert(collection, { id: 900000 }))]
out.bulk = (await db.bulkInsert(collection, [{ id: 'a' }, {}, { id: 'c' }])).length
out.binary = await db.bulkInsertBinary(collection, ['id', 'n'], [
  Buffer.concat([tagged(3, long(Buffer.from('x'))), tagged(2, f64(0.5))]),
  Buffer.concat([tagged(3, long(Buffer.from('y'))), tagged(1, i64(-3))]),
])

// all of it under way at once, and paired by order
out.together = await Promise.all([
  db.get(collection, 'lamp'),
  db.query(`SELECT doc->>'n' AS n FROM "${collection}" WHERE id IN ('x', 'y') ORDER BY id`),
  failure(db.query('SELEC')),
  db.ping(),
  db.query(`SELECT id FROM "${collection}" WHERE id = $1`, 'a'),
  failure(db.insert(collection, { id: 'a' })),
  db.delete(collection, 'c'),
  db.get(collection, 'c'),
  db.query('SHOW COLLECTIONS'),
])
const values = [null, true, 7, 2n ** 62n, 0.5, 'x', new Date(1), Uint8Array.of(0, 255), [1, 2.5], { b: 1 }]
out.values = await db.query(`SELECT ${values.map((_, place) => `$${place + 1} AS v${place}`)}`, ...values)
out.bye = await db.bye()
process.stdout.write(JSON.stringify(out, (_, v) => (typeof v === 'bigint' ? String(v) : v)))
