// A canvas of the model's size with a brush: the picture below, the hole above; both are handed out as PNG.

const ACCENT = [180, 85, 45];

export class Brush {
  /** canvas and its caption; width() is the radius of the brush in hundredths of the smaller side. */
  constructor(canvas, line, width) {
    Object.assign(this, { canvas, line, width, cursor: null, last: null, picture: null });
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = null;
      this.follow(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.follow(event); });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  size(height, width) {
    Object.assign(this.canvas, { height, width });
    this.hole = new Uint8Array(height * width);
    this.picture = null;
    this.draw();
  }

  /** Show an image or canvas, cut to the model's shape around its middle; the hole stays. */
  show(image) {
    const { height, width } = this.canvas, wide = image.naturalWidth ?? image.width, high = image.naturalHeight ?? image.height;
    const scale = Math.max(width / wide, height / high), part = document.createElement("canvas");
    Object.assign(part, { height, width });
    const pen = part.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#fff";  // behind what is transparent
    pen.fillRect(0, 0, width, height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, (width - scale * wide) / 2, (height - scale * high) / 2, scale * wide, scale * high);
    this.picture = pen.getImageData(0, 0, width, height);
    this.draw();
  }

  clear() {
    this.hole.fill(0);
    this.draw();
  }

  get share() { return this.hole.reduce((a, b) => a + b, 0) / this.hole.length; }

  draw() {
    const { height, width } = this.canvas, shown = new ImageData(width, height);
    for (let p = 0; p < height * width; p += 1) {
      for (let c = 0; c < 3; c += 1) shown.data[4 * p + c] = this.hole[p] ? ACCENT[c] : this.picture?.data[4 * p + c] ?? 128;
      shown.data[4 * p + 3] = 255;
    }
    this.pen.putImageData(shown, 0, 0);
    if (this.cursor) {
      const [x, y] = this.cursor;
      this.pen.fillStyle = this.hole[y * width + x] ? "#fff" : "#23282f";
      this.pen.fillRect(x, y, 1, 1);
    }
    this.line.textContent = this.picture ? `${Math.round(100 * this.share)} % is made anew` : "no picture yet";
  }

  dot(x, y) {
    const { height, width } = this.canvas, r = Math.max(0.7, this.width() / 100 * Math.min(height, width));
    for (let j = Math.max(0, Math.ceil(y - r)); j <= Math.min(height - 1, y + r); j += 1) {
      for (let i = Math.max(0, Math.ceil(x - r)); i <= Math.min(width - 1, x + r); i += 1) {
        if ((i - x) ** 2 + (j - y) ** 2 <= r * r) this.hole[j * width + i] = 1;
      }
    }
  }

  follow(event) {
    const box = this.canvas.getBoundingClientRect(), { height, width } = this.canvas;
    const to = [(event.clientX - box.left) / box.width * width - 0.5, (event.clientY - box.top) / box.height * height - 0.5];
    const from = this.last ?? to, pieces = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let k = 0; k <= pieces; k += 1) this.dot(...[0, 1].map((c) => from[c] + k / pieces * (to[c] - from[c])));
    this.last = to;
    this.draw();
  }

  key(event) {
    const { height, width } = this.canvas;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const pace = Math.max(1, Math.round(Math.min(height, width) / 64)), [x, y] = this.cursor ?? [width >> 1, height >> 1];
    this.cursor = [Math.min(Math.max(x + pace * step[0], 0), width - 1), Math.min(Math.max(y + pace * step[1], 0), height - 1)];
    if (event.key === " ") this.dot(...this.cursor);
    this.draw();
  }

  /** Pixels (4 each) as the address of a PNG. */
  png(pixels) {
    const { height, width } = this.canvas, part = document.createElement("canvas");
    Object.assign(part, { height, width });
    part.getContext("2d").putImageData(pixels, 0, 0);
    return part.toDataURL("image/png");
  }

  image() { return this.png(this.picture); }

  /** White stays, black is made anew. */
  mask() {
    const { height, width } = this.canvas, pixels = new ImageData(width, height);
    this.hole.forEach((hidden, p) => pixels.data.set([...Array(3).fill(hidden ? 0 : 255), 255], 4 * p));
    return this.png(pixels);
  }
}
