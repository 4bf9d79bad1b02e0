// Puts the page together: the feed fills the store, the store draws the cards, connections move between them.

import { Cards, element } from "./cards.js";
import { Details } from "./details.js";
import { follow } from "./feed.js";
import { Store, journey } from "./store.js";
import { Teller } from "./teller.js";
import { Traffic } from "./traffic.js";

const byId = (id) => document.getElementById(id);
const store = new Store();
const details = new Details(byId("details"), store, (id) => mark(id ? [id] : []));
const cards = new Cards(store, (id) => details.open(id));
const traffic = new Traffic(byId("traffic"), (id) => cards.locate(id));
const teller = new Teller(byId("teller"), store, traffic, mark);
const LOG_LINES = 3;

let marked = [];
function mark(ids) {
  for (const id of marked) cards.locate(id)?.classList.remove("chosen");
  marked = ids;
  for (const id of marked) cards.locate(id)?.classList.add("chosen");
  traffic.measure();
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

let due = false;
function draw() {
  if (due) return;
  due = true;
  // Many changes, one drawing.
  requestAnimationFrame(() => {
    due = false;
    const select = byId("namespace");
    const names = store.namespaces();
    if (select.dataset.now !== names.join()) {
      const chosen = select.value;
      select.dataset.now = names.join();
      select.replaceChildren(element("option", { value: "", textContent: "all" }), ...names.map((name) => element("option", { value: name, textContent: name })));
      select.value = names.includes(chosen) ? chosen : "";
    }
    cards.draw(select.value);
    mark(marked);
    const pods = store.list("pod");
    byId("summary").textContent =
      [count(store.list("node").length, "node"), count(store.list("service").length, "Service"), count(pods.length, "pod")].join(", ") +
      `, ${pods.filter((pod) => pod.ready).length} ready`;
  });
}

let skipped = 0;
function tellFlows(flows) {
  for (const flow of flows) {
    if (!teller.on) traffic.send(journey(flow, store), flow.outcome);
    teller.offer(flow);
  }
  // Of many at once only those that would be left are written.
  const log = byId("log");
  for (const flow of flows.slice(-LOG_LINES)) {
    const end = flow.outcome === "forward" ? flow.endpoint : `${flow.outcome}: ${flow.why}`;
    log.append(element("li", { textContent: `${flow.client} → ${flow.service ?? flow.destination} → ${end}` }));
    if (log.children.length > LOG_LINES) log.firstElementChild.remove();
  }
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

byId("namespace").addEventListener("change", draw);
byId("pause").addEventListener("click", (event) => {
  traffic.paused = !traffic.paused;
  press(event.currentTarget, traffic.paused);
});
byId("story").addEventListener("click", (event) => {
  if (teller.on) teller.stop();
  else teller.start();
  press(event.currentTarget, teller.on);
});

follow({
  begin(lab) {
    store.clear();
    byId("lab").textContent = lab.name;
    document.title = `minisvc ${lab.name}`;
    draw();
  },
  change: (change) => store.apply(change),
  settled: draw,
  flows(batch) {
    tellFlows(batch.flows);
    if (!batch.skipped) return;
    skipped += batch.skipped;
    byId("skipped").textContent = `${count(skipped, "connection")} not drawn`;
  },
  link(up) {
    byId("link").textContent = up ? "live" : "the lab does not answer";
    byId("link").dataset.up = String(up);
  },
});
