// A client of ticketd for Node.js, written from protocol.md. It needs no packages.
//
// Any number of requests may be on the way: replies come in the order of the requests.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const REPLY_SECONDS_MAX = 30;
const REPLY_CHARS_MAX = 1024 * 1024;
// With these, the request was not done, or may not have been: send it again, with the same id.
const AGAIN = new Set([
  "busy", "storage_full", "outcome_unknown",
  "shutting_down", "idle_timeout", "too_many_connections",
]);

// The daemon said no. `code` says why; `reply` has the rest, such as `available`.
export class Refused extends Error {
  constructor(reply) {
    super(`${reply.code}: ${reply.message}`);
    this.code = reply.code;
    this.reply = reply;
    this.again = AGAIN.has(reply.code);
  }
}

// The connection broke before the reply came. The request may have been done or not.
export class Lost extends Error {
  again = true;
}

export class Ticketd {
  #port;
  #host;
  #socket = null;
  #waiting = [];

  constructor(port = 8080, host = "127.0.0.1") {
    this.#port = port;
    this.#host = host;
  }

  // Send a request, such as {cmd: "list"}, and return its reply. Throws Refused or Lost.
  ask(request) {
    return new Promise((resolve, reject) => {
      this.#socket ??= this.#connect();
      this.#waiting.push({ resolve, reject });
      this.#socket.write(JSON.stringify(request) + "\n");
    });
  }

  // Send a request that has an id until it is answered. It is done once, however often it is sent.
  async settle(request, seconds = 60) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      try {
        return await this.ask(request);
      } catch (error) {
        if (!error.again || Date.now() > deadline) throw error;
        await sleep((error.reply?.retry_after ?? 0.2) * 1000);
      }
    }
  }

  close() {
    this.#socket?.end();
  }

  #connect() {
    const socket = connect(this.#port, this.#host);
    const waiting = (this.#waiting = []);
    let rest = "";
    let ending = new Lost("the connection broke before the reply came");
    const take = (reply) => {
      // This one answers no request. It says why the connection ends, and that the others were not done.
      if (reply.unasked) ending = new Refused(reply);
      else if (reply.reply === "error") waiting.shift().reject(new Refused(reply));
      else waiting.shift().resolve(reply);
    };
    socket.setEncoding("utf8");
    socket.setNoDelay();
    socket.setTimeout(REPLY_SECONDS_MAX * 1000, () => socket.destroy());
    socket.on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) take(JSON.parse(line));
      if (rest.length > REPLY_CHARS_MAX) socket.destroy();
    });
    // "close" follows.
    socket.on("error", (error) => (ending.message += ` (${error.message})`));
    socket.on("close", () => {
      if (this.#socket === socket) this.#socket = null;
      for (const { reject } of waiting) reject(ending);
    });
    return socket;
  }
}
