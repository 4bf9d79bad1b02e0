// The stream of what happens in the lab.

/** Follows the lab; `on` has `begin(lab)`, `change(change)`, `settled()`, `flows(batch)`, `link(up)`. */
export function follow(on) {
  let source;
  const open = () => {
    source = new EventSource("dashboard/feed");
    source.addEventListener("begin", (event) => on.begin(JSON.parse(event.data)));
    source.addEventListener("changes", (event) => {
      for (const change of JSON.parse(event.data)) on.change(change);
      on.settled();
    });
    source.addEventListener("flows", (event) => on.flows(JSON.parse(event.data)));
    // The browser tries again by itself; the feed then begins anew.
    source.onerror = () => on.link(false);
    source.onopen = () => on.link(true);
  };
  open();
  // A page that was left is kept for the way back, with its stream. Six of those, and the browser opens no more for a minute.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && open());
}

/** Asks for JSON or text; an error carries the server's words. */
export async function ask(path, options) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  if (!answer.ok) throw new Error(text.trim() || answer.statusText);
  return text;
}
