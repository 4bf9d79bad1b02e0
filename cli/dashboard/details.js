// The panel about one object: what it is, its flows, and why it does or does not answer.

import { ask } from "./feed.js";
import { element } from "./cards.js";

const PATHS = {
  service: ([namespace, name]) => `api/v1/namespaces/${namespace}/services/${name}`,
  pod: ([namespace, name]) => `api/v1/namespaces/${namespace}/pods/${name}`,
  node: ([name]) => `api/v1/nodes/${name}`,
};

export class Details {
  constructor(panel, store, chosen) {
    Object.assign(this, { panel, store, chosen });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  close() {
    if (this.panel.hidden) return;
    this.panel.hidden = true;
    this.chosen(undefined);
    this.origin?.focus();
  }

  open(id) {
    this.origin = document.activeElement;
    const [kind, key] = [id.slice(0, id.indexOf(":")), id.slice(id.indexOf(":") + 1)];
    const close = element("button", { className: "close", textContent: "Close" });
    close.addEventListener("click", () => this.close());
    const body = element("div");
    this.panel.replaceChildren(close, element("h3", { textContent: `${kind} ${key}` }), body);
    this.panel.hidden = false;
    this.chosen(id);
    close.focus();
    if (kind === "client") return this.#flows(body, key === "workstation" ? "" : key);
    if (kind === "service") this.#service(body, key);
    if (kind === "service" || kind === "pod") this.#why(body, kind === "service" ? "svc" : "pod", key);
    this.#flows(body, kind === "service" ? key : "", kind === "pod" ? key : "");
    this.#object(body, PATHS[kind](key.split("/")));
  }

  #section(body, title, button, path, options) {
    const output = element("pre", { hidden: true });
    const trigger = element("button", { textContent: button });
    trigger.addEventListener("click", async () => {
      output.hidden = false;
      output.textContent = "…";
      output.textContent = await ask(path, options).catch((error) => error.message);
    });
    body.append(element("h4", { textContent: title }), trigger, output);
    return trigger;
  }

  #service(body, key) {
    const list = element("dl");
    for (const endpoint of this.store.endpoints(key)) {
      const state = endpoint.terminating ? "terminating" : endpoint.ready ? "ready" : "not ready";
      list.append(element("dt", { textContent: endpoint.address }), element("dd", { textContent: `${state} ${endpoint.target ?? ""} ${endpoint.node ?? ""}` }));
    }
    body.append(element("h4", { textContent: "Endpoints" }), list.children.length ? list : element("p", { className: "empty", textContent: "none" }));
    this.#section(body, "Try it", "Send a request from the workstation", `dashboard/try?service=${encodeURIComponent(key)}`, { method: "POST" });
  }

  #why(body, kind, key) {
    const [namespace, name] = key.split("/");
    const path = `dashboard/why?target=${kind}/${encodeURIComponent(name)}&namespace=${encodeURIComponent(namespace)}`;
    this.#section(body, "Why", "Why does it, or does it not, answer?", path);
  }

  #flows(body, service, pod = "") {
    const query = new URLSearchParams({ ...(service && { service }), ...(pod && { pod }), limit: 100 });
    this.#section(body, "Flows", "Show its connections", `dashboard/flows?${query}`);
  }

  #object(body, path) {
    this.#section(body, "Object", "Show the object", path).click();
  }
}
