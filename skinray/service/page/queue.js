// Images waiting for the service: sent a few at a time, in order.

import { setAnswer } from "./items.js";

const AT_ONCE = 2;

export class Queue {
  /** `ask(item, signal, waiting)` resolves to an answer; `changed(item)` is called after every change. */
  constructor(ask, changed) {
    this.ask = ask;
    this.changed = changed;
    this.waiting = [];
    this.running = new Map();
  }

  push(item) {
    this.running.get(item)?.abort();
    this.waiting = this.waiting.filter((one) => one !== item);
    this.waiting.push(item);
    item.status = "waiting";
    item.note = "";
    item.error = null;
    this.changed(item);
    this.#next();
  }

  drop(item) {
    this.waiting = this.waiting.filter((one) => one !== item);
    this.running.get(item)?.abort();
  }

  #next() {
    while (this.running.size < AT_ONCE && this.waiting.length) this.#run(this.waiting.shift());
  }

  async #run(item) {
    const control = new AbortController();
    this.running.set(item, control);
    item.status = "running";
    this.changed(item);
    const held = (why) => { item.note = why; this.changed(item); };
    try {
      setAnswer(item, await this.ask(item, control.signal, held));
    } catch (error) {
      if (!control.signal.aborted) {
        item.status = "failed";
        item.error = error;
      }
    }
    if (this.running.get(item) === control) this.running.delete(item);
    item.note = "";
    if (!control.signal.aborted) this.changed(item);
    this.#next();
  }
}
