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
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.running = false;
    this.paused = false;
    this.frames = 0;
    const measure = () => this.measure();
    new ResizeObserver(measure).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.colours = undefined));
  }

  /** Cards have moved. */
  measure() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((size) => Math.round(size * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.centres.clear();
  }

  #centre(id) {
    if (!this.centres.has(id)) {
      const card = this.locate(id);
      const box = card?.getBoundingClientRect();
      const origin = this.canvas.getBoundingClientRect();
      this.centres.set(id, box && { x: box.x + box.width / 2 - origin.x, y: box.y + box.height / 2 - origin.y });
    }
    return this.centres.get(id);
  }

  /** Shows one connection on its way past these places. */
  send(path, outcome) {
    if (this.paused || this.dots.length >= MOST) return;
    this.dots.push({ path, outcome, began: performance.now() });
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
    const pen = this.pen;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.colours ??= Object.fromEntries(["flow", "bad", "warn"].map((name) => [name, this.#colour(`--${name}`)]));
    if (this.traced) this.#line(this.traced, 1, 3);
    this.dots = this.dots.filter((dot) => now - dot.began < TRAVEL);
    for (const dot of this.dots) this.#dot(dot, Math.max(0, (now - dot.began) / TRAVEL));
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

  #line(path, alpha, width) {
    const points = this.#points(path);
    this.pen.globalAlpha = alpha;
    this.pen.strokeStyle = this.colours.flow;
    this.pen.lineWidth = width;
    this.pen.beginPath();
    for (const point of points) this.pen.lineTo(point.x, point.y);
    this.pen.stroke();
    this.pen.globalAlpha = 1;
  }

  #dot(dot, share) {
    const points = this.#points(dot.path);
    if (points.length === 0) return;
    if (this.still.matches) return this.#line(dot.path, 1 - share, 2);
    this.#line(dot.path, 0.16, 1);
    const at = share * (points.length - 1);
    const from = points[Math.floor(at)];
    const to = points[Math.min(Math.floor(at) + 1, points.length - 1)];
    const part = at - Math.floor(at);
    const [x, y] = [from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part];
    const pen = this.pen;
    if (dot.outcome === "forward") {
      pen.fillStyle = this.colours.flow;
      pen.beginPath();
      pen.arc(x, y, 4, 0, 7);
      pen.fill();
    } else if (dot.outcome === "refuse") {
      pen.strokeStyle = this.colours.bad;
      pen.lineWidth = 2.5;
      pen.beginPath();
      for (const [a, b] of [[-5, 5], [5, -5]]) {
        pen.moveTo(x - 5, y + a);
        pen.lineTo(x + 5, y + b);
      }
      pen.stroke();
    } else {
      pen.fillStyle = this.colours.warn;
      pen.fillRect(x - 4, y - 4, 8, 8);
    }
  }
}
