// Story mode: one connection, a step at a time.

import { element } from "./cards.js";
import { journey, story } from "./store.js";

export class Teller {
  constructor(box, store, traffic, mark) {
    Object.assign(this, { box, store, traffic, mark });
    document.addEventListener("keydown", (event) => {
      if (this.box.hidden || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName)) return;
      if (event.key === "ArrowRight") this.go(1);
      if (event.key === "ArrowLeft") this.go(-1);
    });
  }

  get on() {
    return !this.box.hidden;
  }

  start() {
    this.steps = undefined;
    this.box.hidden = false;
    this.box.replaceChildren(element("p", { textContent: "Waiting for a connection to a Service. Make one: choose a Service and send it a request." }));
  }

  stop() {
    this.box.hidden = true;
    this.steps = undefined;
    this.traffic.trace(undefined);
    this.mark([]);
  }

  /** Offers a connection; the first one to a Service is told. Looking names up is part of every story, not one of its own. */
  offer(flow) {
    if (!this.on || this.steps || !flow.service || flow.service.startsWith("kube-system/")) return;
    this.path = journey(flow, this.store);
    this.steps = story(flow, this.store);
    this.at = 0;
    this.#tell();
  }

  go(by) {
    if (!this.steps) return;
    this.at = Math.max(0, Math.min(this.steps.length - 1, this.at + by));
    this.#tell();
  }

  #tell() {
    const step = this.steps[this.at];
    const places = step.at.map((index) => this.path[Math.min(index, this.path.length - 1)]);
    this.traffic.trace(places);
    this.mark(places);
    const button = (text, run, disabled) => {
      const made = element("button", { textContent: text, disabled });
      made.addEventListener("click", run);
      return made;
    };
    this.box.replaceChildren(
      element("strong", { textContent: `${this.at + 1}. ${step.title}` }),
      element("p", { textContent: step.text }),
      element("nav", {},
        button("← Back", () => this.go(-1), this.at === 0),
        button("Next →", () => this.go(1), this.at === this.steps.length - 1),
        button("Another connection", () => this.start(), false)),
    );
    this.box.querySelector("p").setAttribute("role", "status");
  }
}
