// Connections in motion, drawn over the cards.

/** Dots at once; with more, the newest are not drawn. */
const MOST = 400;
/** How long a connection takes across the page, in milliseconds. */
const TRAVEL = 900;

export class Traffic {
  /** `locate(id)` gives the card of a place, or nothing. */
  constructor(canvas, locate) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.locate = locate;
    this.dots = [];
    this.centres = new Map();
    this.ratio = 1;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.running = false;
    this.paused = false;
    this.frames = 0;
    const observer = new ResizeObserver(() => this.measure());
    // The window, and what moves the cards.
    for (const watched of [canvas, document.querySelector("main")]) observer.observe(watched);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.colours = undefined));
    addEventListener("scroll", () => this.traced && this.#run(), { passive: true });
  }

  /** Cards have moved. */
  measure() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((size) => Math.round(size * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.ratio = ratio;
    this.centres.clear();
    if (this.traced) this.#run();
  }

  /** The centre of a card on the page, wherever the window is. */
  #centre(id) {
    if (!this.centres.has(id)) {
      const box = this.locate(id)?.getBoundingClientRect();
      this.centres.set(id, box && { x: box.x + box.width / 2 + scrollX, y: box.y + box.height / 2 + scrollY });
    }
    return this.centres.get(id);
  }

  /** Shows one connection on its way past these places. */
  send(path, outcome) {
    if (this.paused || this.dots.length >= MOST) return;
    this.dots.push({ path, way: path.join(" "), outcome, began: performance.now() });
    this.#run();
  }

  /** Shows the way itself, for story mode; nothing hides it. */
  trace(path) {
    this.traced = path;
    this.#run();
  }

  #run() {
    if (this.running) return;
    this.running = true;
    requestAnimationFrame((now) => this.#frame(now));
  }

  #frame(now) {
    this.frames += 1;
    const { pen, ratio } = this;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.translate(-scrollX, -scrollY);
    this.colours ??= Object.fromEntries(["flow", "bad", "warn"].map((name) => [name, this.#colour(`--${name}`)]));
    if (this.traced) this.#line(this.#points(this.traced), 1, 3);
    this.dots = this.dots.filter((dot) => now - dot.began < TRAVEL);
    // What goes the same way shares a line, and what looks the same is filled at once: each call costs as much as a dot.
    for (const dots of Map.groupBy(this.dots, (dot) => dot.way).values()) this.#way(dots, now);
    this.#marks();
    this.running = this.dots.length > 0;
    if (this.running) requestAnimationFrame((next) => this.#frame(next));
  }

  #colour(name) {
    // Canvas does not know light-dark(); an element does.
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  }

  #points(path) {
    return path.map((id) => this.#centre(id)).filter(Boolean);
  }

  #line(points, alpha, width) {
    this.pen.globalAlpha = alpha;
    this.pen.strokeStyle = this.colours.flow;
    this.pen.lineWidth = width;
    this.pen.beginPath();
    for (const point of points) this.pen.lineTo(point.x, point.y);
    this.pen.stroke();
    this.pen.globalAlpha = 1;
  }

  /** The line of some connections, and where on it each is. */
  #way(dots, now) {
    const points = this.#points(dots[0].path);
    const share = (dot) => Math.max(0, (now - dot.began) / TRAVEL);
    if (this.still.matches) {
      this.#line(points, 1 - share(dots.at(-1)), 2);
    } else {
      this.#line(points, 1 - 0.84 ** dots.length, 1);
      for (const dot of dots) dot.at = along(points, share(dot));
    }
  }

  /** The connections themselves; what became of each is a shape. */
  #marks() {
    if (this.still.matches) return;
    const { pen, colours } = this;
    const shown = Map.groupBy(this.dots.filter((dot) => dot.at), (dot) => dot.outcome);
    const draw = (outcome, shape) => {
      pen.beginPath();
      for (const { at } of shown.get(outcome) ?? []) shape(at);
    };
    draw("forward", ({ x, y }) => {
      pen.moveTo(x + 4, y);
      pen.arc(x, y, 4, 0, 7);
    });
    pen.fillStyle = colours.flow;
    pen.fill();
    draw("refuse", ({ x, y }) => {
      for (const [a, b] of [[-5, 5], [5, -5]]) {
        pen.moveTo(x - 5, y + a);
        pen.lineTo(x + 5, y + b);
      }
    });
    pen.strokeStyle = colours.bad;
    pen.lineWidth = 2.5;
    pen.stroke();
    draw("drop", ({ x, y }) => pen.rect(x - 4, y - 4, 8, 8));
    pen.fillStyle = colours.warn;
    pen.fill();
  }
}

/** The point at a share of the way; nothing on a way that leads nowhere. */
function along(points, share) {
  if (points.length === 0) return undefined;
  const at = share * (points.length - 1);
  const from = points[Math.floor(at)];
  const to = points[Math.min(Math.floor(at) + 1, points.length - 1)];
  const part = at - Math.floor(at);
  return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}
