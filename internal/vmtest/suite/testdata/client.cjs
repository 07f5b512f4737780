// A client of the relay that others wrote: the native module of the published
// packages, as their AgentClient uses it.
//
//	node client.cjs MODULE SOCKET
//
// It runs cat, says something, asks for a file's status, and prints the bodies of
// the answers, a line each.
'use strict';

const [, , native, socket] = process.argv;
const { AgentClient } = require(native);

// As much CBOR as that needs. Bodies are the caller's in that client.
const head = (major, n) => n < 24 ? [major << 5 | n] : n < 256 ? [major << 5 | 24, n] : [major << 5 | 25, n >> 8, n & 255];
const text = (s) => Buffer.concat([Buffer.from(head(3, Buffer.byteLength(s))), Buffer.from(s)]);
const bytes = (b) => Buffer.concat([Buffer.from(head(2, b.length)), b]);
const map = (o) => Buffer.concat([Buffer.from(head(5, Object.keys(o).length)), ...Object.entries(o).flatMap(([k, v]) => [text(k), v])]);
const envelope = (type, payload) => map({ v: Buffer.from([5]), t: text(type), p: bytes(map(payload)) });

const START = 2, TERMINAL = 1;

async function main() {
  const client = await AgentClient.connect(socket);
  if (!client.readyBytes().includes('core.ready')) throw new Error('no core.ready in the handshake');
  const { id, handle } = await client.streamOpen(START, envelope('core.exec.request', { cmd: text('cat') }));
  await client.send(id, 0, envelope('core.exec.stdin', { data: bytes(Buffer.from('said by the reference client\n')) }));
  await client.send(id, 0, envelope('core.exec.stdin', { data: bytes(Buffer.alloc(0)) }));
  for (;;) {
    const frame = await client.streamNext(handle);
    if (frame === null) throw new Error('the stream ended without a terminal frame');
    console.log(JSON.stringify(Buffer.from(frame.body).toString('latin1')));
    if (frame.flags & TERMINAL) break;
  }
  const stat = map({ Stat: map({ path: text('/'), follow_symlink: Buffer.from([0xf5]) }) });
  const answer = await client.request(START, envelope('core.fs.request', { op: stat }));
  console.log(JSON.stringify(Buffer.from(answer.body).toString('latin1')));
  await client.close();
}

main().catch((e) => { console.error(e); process.exit(1); });
