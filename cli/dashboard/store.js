// What is known of the lab, kept up to date by the feed. Pure: no page, no clock, no network.

/** Orders by name; names have no letters that an alphabet would order otherwise, and asking one for each pair takes long. */
const byKey = (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);

/** Orders addresses by their numbers. Made once, since that takes a hundred times as long as a comparison. */
const { compare } = new Intl.Collator("en", { numeric: true });

/** Objects by kind and key (`namespace/name`). */
export class Store {
  constructor() {
    this.clear();
  }

  clear() {
    this.kinds = { node: new Map(), service: new Map(), pod: new Map(), slice: new Map() };
    this.podByAddress = new Map();
    this.serviceByAddress = new Map();
    this.slicesByService = new Map();
  }

  /** Takes one change: `{op: "put" | "delete", kind, key, …fields}`. */
  apply(change) {
    const objects = this.kinds[change.kind];
    if (!objects) return;
    this.#unindex(objects.get(change.key));
    if (change.op === "delete") {
      objects.delete(change.key);
    } else {
      objects.set(change.key, change);
      this.#index(change);
    }
  }

  #index(object) {
    for (const address of object.addresses ?? []) {
      if (object.kind === "pod" && !object.hostNetwork) this.podByAddress.set(address, object.key);
      if (object.kind === "service") this.serviceByAddress.set(address, object.key);
    }
    if (object.kind === "slice") {
      if (!this.slicesByService.has(object.service)) this.slicesByService.set(object.service, new Map());
      this.slicesByService.get(object.service).set(object.key, object);
    }
  }

  #unindex(object) {
    for (const address of object?.addresses ?? []) {
      if (this.podByAddress.get(address) === object.key) this.podByAddress.delete(address);
      if (this.serviceByAddress.get(address) === object.key) this.serviceByAddress.delete(address);
    }
    if (object?.kind === "slice") {
      const slices = this.slicesByService.get(object.service);
      slices.delete(object.key);
      if (slices.size === 0) this.slicesByService.delete(object.service);
    }
  }

  list(kind, namespace = "") {
    const all = [...this.kinds[kind].values()].filter((object) => !namespace || object.namespace === namespace);
    return all.sort(byKey);
  }

  get(kind, key) {
    return this.kinds[kind].get(key);
  }

  namespaces() {
    const named = [...this.kinds.service.values(), ...this.kinds.pod.values()].map((object) => object.namespace);
    return [...new Set(named)].sort();
  }

  /** The endpoints of a Service, each address once. */
  endpoints(service) {
    const found = new Map();
    for (const slice of this.slicesByService.get(service)?.values() ?? []) {
      for (const endpoint of slice.endpoints) found.set(endpoint.address, endpoint);
    }
    return [...found.values()].sort((a, b) => compare(a.address, b.address));
  }
}

/** How an endpoint or a pod is drawn: the name of its mark. */
export function markOf(thing) {
  if (thing.terminating) return "leaving";
  if (thing.phase === "Failed") return "failed";
  return thing.ready ? "ready" : "unready";
}

/** The address of `address:port`, with or without brackets. */
export function host(socket) {
  const end = socket.lastIndexOf(":");
  return (end < 0 ? socket : socket.slice(0, end)).replace(/^\[|\]$/g, "");
}

/** Where a connection is drawn: the ids of the places it passes, in order. */
export function journey(flow, store) {
  const place = (socket) => {
    const pod = store.podByAddress.get(host(socket));
    if (pod) return `pod:${pod}`;
    const node = [...store.kinds.node.values()].find((node) => node.addresses.includes(host(socket)));
    return node ? `node:${node.key}` : undefined;
  };
  const from = place(flow.client) ?? `client:${flow.from}`;
  const service = flow.service ? `service:${flow.service}` : undefined;
  const to = flow.endpoint ? place(flow.endpoint) ?? `client:${flow.to}` : undefined;
  return [from, service, to].filter(Boolean);
}

/** The sentences of story mode about one connection. */
export function story(flow, store) {
  const name = flow.service?.split("/");
  const who = store.podByAddress.get(host(flow.client));
  const client = who ? `The pod ${who}` : "The workstation";
  const steps = [];
  if (name) {
    steps.push({
      at: [0],
      title: "The name",
      text: `${client} wants to talk to the Service ${name[1]} in the namespace ${name[0]}. DNS answers ` +
        `${name[1]}.${name[0]}.svc.cluster.local with one address that never changes: ${host(flow.destination)}.`,
    });
    steps.push({
      at: [0, 1],
      title: "The virtual IP",
      text: `It sends a packet from ${flow.client} to ${flow.destination}. No process has that address: it exists in the ` +
        `data plane's table only, which every packet of the lab passes.`,
    });
  } else {
    steps.push({ at: [0], title: "A direct connection", text: `${client} sends a packet to ${flow.destination}, which is no Service's address.` });
  }
  if (flow.outcome !== "forward") {
    const what = flow.outcome === "refuse" ? "is refused at once" : "is dropped without an answer";
    steps.push({ at: [0, 1], title: "No endpoint", text: `The connection ${what}: ${flow.why}.` });
    return steps;
  }
  if (name) {
    const of = flow.candidates === 1 ? "the only endpoint" : `one of ${flow.candidates} endpoints`;
    steps.push({
      at: [1, 2],
      title: "The choice",
      text: `The data plane takes ${of} that may have it: ${flow.endpoint}. Why this one: ${flow.why}. From now on this connection stays with it.`,
    });
    const source = flow.source && flow.source !== flow.client
      ? `and the source to ${flow.source}, so that the answer comes back this way`
      : "and leaves the source alone: the pod sees its real client";
    steps.push({ at: [1, 2], title: "The rewrite", text: `It changes the destination from ${flow.destination} to ${flow.endpoint}, ${source}.` });
  }
  steps.push({
    at: [0, 2],
    title: "The reply",
    text: name
      ? `The pod answers. On the way back the source is changed from ${flow.endpoint} to ${flow.destination} again: the client never learns that there is more than one.`
      : "The answer walks back the same way.",
  });
  return steps;
}
