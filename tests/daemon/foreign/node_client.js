// A subscriber made of an npm package, for test_foreign_clients.py.
//
// usage: node_client.js netstring|endo|endo-chunked PORT
//
// Its standard input is a socket, on which the test speaks lines: `send BASE64` sends a message,
// `end` ends this side. The answers are `event BASE64` for what the relay sends, and `eof`. It ends
// when the test closes the socket. The packages are looked for in $EVRELAY_NODE_MODULES.

'use strict';

const { createRequire } = require('module');
const net = require('net');
const path = require('path');
const readline = require('readline');
const { pathToFileURL } = require('url');

const packages = createRequire(path.join(process.env.EVRELAY_NODE_MODULES, 'here.js'));

// Each returns the function that sends a message, and calls `heard` for every event.

function netstringClient(socket, heard, ended) {
  const netstring = packages('netstring');
  const stream = new netstring.Stream(socket);
  stream.on('data', heard);
  stream.on('error', (error) => {
    throw error;
  });
  socket.on('end', ended);
  return (payload) => new Promise((done) => socket.write(netstring.nsWrite(payload), done));
}

// With `chunked` the package hands over the size, each half of the message and the comma one by
// one, and each is written when the one before has been, as a packet of its own.
async function endoClient(socket, heard, ended, chunked) {
  const load = (name) => import(pathToFileURL(packages.resolve(name)));
  await load('@endo/init'); // the package needs it
  const { makeNetstringReader, makeNetstringWriter } = await load('@endo/netstring');
  const listen = async () => {
    for await (const payload of makeNetstringReader(socket)) heard(payload);
    ended();
  };
  listen();
  let written = Promise.resolve();
  const output = {
    next(chunk) {
      const write = () => new Promise((done) => socket.write(chunk, done));
      written = written.then(write);
      return written.then(() => ({ done: false, value: undefined }));
    },
  };
  const writer = makeNetstringWriter(output, { chunked });
  return (payload) => {
    const middle = payload.length >> 1;
    return writer.next([payload.subarray(0, middle), payload.subarray(middle)]);
  };
}

async function main(library, port) {
  const control = new net.Socket({ fd: 0 });
  const heard = (payload) => control.write(`event ${Buffer.from(payload).toString('base64')}\n`);
  const ended = () => control.write('eof\n');
  const socket = net.connect({ port: Number(port), host: '127.0.0.1', noDelay: true });
  const send =
    library === 'netstring'
      ? netstringClient(socket, heard, ended)
      : await endoClient(socket, heard, ended, library === 'endo-chunked');

  let sent = Promise.resolve();
  const lines = readline.createInterface({ input: control });
  lines.on('line', (line) => {
    const [verb, payload] = line.split(' ');
    if (verb === 'send') {
      sent = Promise.all([sent, send(Buffer.from(payload, 'base64'))]);
    } else {
      sent.then(() => socket.end());
    }
  });
  lines.on('close', () => process.exit(0));
}

main(...process.argv.slice(2));
