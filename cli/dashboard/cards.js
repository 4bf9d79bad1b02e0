// The cards of the page: made once for each object, changed in place, so that focus and scroll stay where they are.

import { markOf } from "./store.js";

/** More pods than this on one node are shown without their names. */
const NAMED = 40;

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export class Cards {
  constructor(store, open) {
    this.store = store;
    this.open = open;
    this.byId = new Map();
    this.clients = document.getElementById("clients");
    this.services = document.getElementById("services");
    this.nodes = document.getElementById("nodes");
    for (const [id, title, note] of [
      ["client:workstation", "Workstation", "minisvc shell, minisvc exec"],
      ["client:control-plane", "Control plane", "the API and DNS"],
      ["client:outside", "Outside", "this machine and beyond"],
    ]) this.clients.append(this.#card(id, title, note));
  }

  /** The card of a place such as `service:default/web`. */
  locate(id) {
    return this.byId.get(id);
  }

  #card(id, title, note) {
    const card = element("button", { className: "card" }, element("strong", { textContent: title }), element("small", { textContent: note }));
    card.addEventListener("click", () => this.open(id));
    card.dataset.id = id;
    this.byId.set(id, card);
    return card;
  }

  #mark(kind) {
    const mark = element("i");
    mark.className = `mark ${kind}`;
    return mark;
  }

  /** Brings every card up to date. */
  draw(namespace) {
    this.#drawServices(namespace);
    this.#drawNodes(namespace);
  }

  #keep(parent, wanted, make) {
    const seen = new Set(wanted.map(([id]) => id));
    for (const child of [...parent.children]) {
      if (seen.has(child.dataset.id)) continue;
      this.byId.delete(child.dataset.id);
      child.remove();
    }
    let before = parent.firstElementChild;
    for (const [id, object] of wanted) {
      const card = this.byId.get(id) ?? make(id, object);
      if (card !== before) parent.insertBefore(card, before);
      else before = before.nextElementSibling;
    }
  }

  #drawServices(namespace) {
    const services = this.store.list("service", namespace).map((service) => [`service:${service.key}`, service]);
    this.#keep(this.services, services, (id, service) => {
      const card = this.#card(id, service.key, "");
      card.append(element("div", { className: "marks" }));
      return card;
    });
    for (const [id, service] of services) {
      const [, note, marks] = this.byId.get(id).children;
      const ports = service.ports.map((port) => `${port.port}/${port.protocol}`).join(", ");
      note.textContent = `${service.type} ${service.addresses.join(", ") || service.externalName || "no address"} ${ports}`;
      const endpoints = this.store.endpoints(service.key);
      const now = endpoints.map(markOf);
      if (marks.dataset.now === now.join()) continue;
      marks.dataset.now = now.join();
      marks.replaceChildren(...now.map((kind) => this.#mark(kind)));
      const ready = now.filter((kind) => kind === "ready").length;
      this.byId.get(id).setAttribute("aria-label", `Service ${service.key}, ${ready} of ${now.length} endpoints ready`);
    }
  }

  #drawNodes(namespace) {
    const nodes = this.store.list("node").map((node) => [`node:${node.key}`, node]);
    this.#keep(this.nodes, nodes, (id, node) => {
      const title = element("button", { textContent: node.key });
      title.addEventListener("click", () => this.open(id));
      const card = element("div", { className: "node" }, title, element("small", { className: "empty" }), element("div", { className: "pods" }));
      card.dataset.id = id;
      this.byId.set(id, card);
      return card;
    });
    const placed = Map.groupBy(this.store.list("pod", namespace), (pod) => pod.node);
    for (const [id, node] of nodes) {
      const card = this.byId.get(id);
      card.classList.toggle("down", !node.ready);
      const pods = (placed.get(node.key) ?? []).filter((pod) => pod.phase !== "Succeeded");
      card.children[1].textContent = ` ${node.addresses[0] ?? ""} ${node.zone ?? ""}, ${pods.length} pod${pods.length === 1 ? "" : "s"}`;
      card.children[2].classList.toggle("many", pods.length > NAMED);
      this.#drawPods(card.children[2], pods);
    }
  }

  #drawPods(parent, pods) {
    const wanted = pods.map((pod) => [`pod:${pod.key}`, pod]);
    this.#keep(parent, wanted, (id, pod) => {
      const button = element("button", { className: "pod" }, this.#mark("unready"), element("span", { textContent: pod.name }));
      button.addEventListener("click", () => this.open(id));
      button.dataset.id = id;
      this.byId.set(id, button);
      return button;
    });
    for (const [id, pod] of wanted) {
      const button = this.byId.get(id);
      const kind = markOf(pod);
      if (button.dataset.now === kind) continue;
      button.dataset.now = kind;
      button.firstElementChild.className = `mark ${kind}`;
      button.title = `${pod.key} ${pod.addresses.join(" ")} ${pod.reason || pod.phase}`;
      button.setAttribute("aria-label", `Pod ${pod.key}, ${kind === "leaving" ? "terminating" : pod.ready ? "ready" : pod.reason || "not ready"}`);
    }
  }
}
