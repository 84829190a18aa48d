// The decoded pictures of one answer, and the masks drawn over the image.

// The colours of the overlays in the reports (for biopsies: figure 4 of the paper).
export const NERVE = [20, 70, 255];
export const BOUNDARY = [0, 190, 70];
export const CROSSING = [230, 0, 30];
export const SKIN = [0, 200, 255];
export const GROUND = [223, 228, 234]; // behind the image, as in the style sheet
const UNSURE = [68, 1, 84];
const SURE = [253, 231, 37];
const OPACITY = 0.75;
const [LINE, INSIDE] = [0.8, 0.12];

/** Decode what the viewer needs from an answer's blobs: the image, and the named grey pictures. */
export async function decode(blobs, names) {
  const image = await bitmap(blobs.image);
  const greys = await Promise.all(names.map((name) => grey(blobs[name])));
  const values = Object.fromEntries(names.map((name, index) => [name, greys[index]]));
  return { image, values, width: image.width, height: image.height };
}

/** The file itself, shown while it is processed; null if the browser cannot read it. */
export async function preview(file) {
  try {
    const image = await createImageBitmap(file);
    return { image, values: {}, width: image.width, height: image.height };
  } catch {
    return null;
  }
}

/**
 * A canvas of the pixels above a level, in one colour. With a factor, of squares of that side that
 * contain such a pixel: thin lines do not fade when zoomed out, and large images stay fast.
 */
export const tint = (colour, opacity = OPACITY) => {
  const paint = packed(colour, opacity);
  return drawn((value, level) => (value > level ? paint : 0));
};

/** A line round the areas above a level, with next to nothing inside: the tissue below stays visible. */
export const outline = (colour) => {
  const [line, inside] = [packed(colour, LINE), packed(colour, INSIDE)];
  return (values, width, height, level, factor = 1) => {
    const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
    const area = new Uint8Array(columns * rows);
    eachCell(width, values.length, factor, (index, cell) => { if (values[index] > level) area[cell] = 1; });
    return canvasOf(columns, rows, (pixels) => {
      for (let cell = 0, y = 0; y < rows; y += 1) {
        for (let x = 0; x < columns; x += 1, cell += 1) {
          if (area[cell]) pixels[cell] = inside;
          else if ((x && area[cell - 1]) || (x + 1 < columns && area[cell + 1])
            || (y && area[cell - columns]) || area[cell + columns]) pixels[cell] = line;
        }
      }
    });
  };
};

/** A canvas of the pixels that are not above a level. */
export const cover = (colour) => {
  const paint = packed(colour, 1);
  return drawn((value, level) => (value > level ? 0 : paint));
};

/** A canvas of how certain a probability is: dark where both classes are equally likely, bright where one is certain. */
export const certainty = () => {
  const paints = Array.from({ length: 256 }, (_, value) => {
    const sure = Math.abs((2 * value) / 255 - 1);
    return packed(UNSURE.map((from, index) => Math.round(from + sure * (SURE[index] - from))), 0.8);
  });
  return drawn((value) => paints[value]);
};

// Little endian: alpha, blue, green, red.
const packed = ([red, green, blue], opacity) => ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** Return a function that draws values on a canvas; `paint(value, level)` gives the colour, 0 for none. */
const drawn = (paint) => (values, width, height, level, factor = 1) => {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  return canvasOf(columns, rows, (pixels) => eachCell(width, values.length, factor, (index, cell) => {
    const colour = paint(values[index], level);
    if (colour) pixels[cell] = colour;
  }));
};

/** Call `act(index, cell)` for every pixel of an image, with the square of side `factor` that it lies in. */
function eachCell(width, length, factor, act) {
  const [columns, shift] = [Math.ceil(width / factor), Math.log2(factor)];
  for (let index = 0, y = 0; index < length; y += 1) {
    const row = (y >> shift) * columns;
    for (let x = 0; x < width; x += 1, index += 1) act(index, row + (x >> shift));
  }
}

function canvasOf(columns, rows, fill) {
  const canvas = blank(columns, rows);
  const picture = new ImageData(columns, rows);
  fill(new Uint32Array(picture.data.buffer));
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

/** The true pixel nearest to [row, column] within `reach`, or null. */
export function nearestTrue(values, width, height, [row, column], reach) {
  let best = null;
  let least = reach * reach;
  const [top, bottom] = [Math.max(0, Math.ceil(row - reach)), Math.min(height - 1, Math.floor(row + reach))];
  const [left, right] = [Math.max(0, Math.ceil(column - reach)), Math.min(width - 1, Math.floor(column + reach))];
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) {
      const far = (y - row) ** 2 + (x - column) ** 2;
      if (values[y * width + x] > 127 && far <= least) { best = [y, x]; least = far; }
    }
  }
  return best;
}

export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

// The values are numbers, not screen colours: no conversion.
const bitmap = (blob) => createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });

async function grey(blob) {
  const picture = await bitmap(blob);
  const context = blank(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const values = new Uint8Array(picture.width * picture.height);
  for (let index = 0; index < values.length; index += 1) values[index] = data[4 * index];
  picture.close();
  return values;
}
