// Pictures of one answer, decoded, and the masks that are drawn over the image.

// The colours of the overlays that the reports draw (of biopsies: figure 4 of the paper).
export const NERVE = [20, 70, 255];
export const BOUNDARY = [0, 190, 70];
export const CROSSING = [230, 0, 30];
export const SKIN = [0, 200, 255];
export const GROUND = [223, 228, 234]; // behind the image, as the style sheet has it
const UNSURE = [68, 1, 84];
const SURE = [253, 231, 37];
const OPACITY = 0.75;

/** Decode what the viewer needs of an answer's blobs: the image, and the grey pictures named. */
export async function decode(blobs, names) {
  const image = await bitmap(blobs.image);
  const greys = await Promise.all(names.map((name) => grey(blobs[name])));
  const values = Object.fromEntries(names.map((name, index) => [name, greys[index]]));
  return { image, values, width: image.width, height: image.height };
}

/** The file itself, to look at while it is counted; null where the browser cannot read it. */
export async function preview(file) {
  try {
    const image = await createImageBitmap(file);
    return { image, values: {}, width: image.width, height: image.height };
  } catch {
    return null;
  }
}

/**
 * A canvas of the pixels above a level, in one colour; with a factor, of squares of that side that
 * hold such a pixel: thin lines do not fade in a small view, and large images stay quick.
 */
export const tint = (colour, opacity = OPACITY) => {
  const paint = packed(colour, opacity);
  return drawn((value, level) => (value > level ? paint : 0));
};

/** The same of the pixels that are not above it. */
export const cover = (colour) => {
  const paint = packed(colour, 1);
  return drawn((value, level) => (value > level ? 0 : paint));
};

/** A canvas of how sure a probability is: dark where both are as likely, bright where one is certain. */
export const certainty = () => {
  const paints = Array.from({ length: 256 }, (_, value) => {
    const sure = Math.abs((2 * value) / 255 - 1);
    return packed(UNSURE.map((from, index) => Math.round(from + sure * (SURE[index] - from))), 0.8);
  });
  return drawn((value) => paints[value]);
};

// Little endian: alpha, blue, green, red.
const packed = ([red, green, blue], opacity) => ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** What draws values as a canvas by a function of one value and the level; 0: nothing there. */
const drawn = (paint) => (values, width, height, level, factor = 1) => {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const canvas = blank(columns, rows);
  const picture = new ImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer);
  const shift = Math.log2(factor);
  for (let index = 0, y = 0; index < values.length; y += 1) {
    const row = (y >> shift) * columns;
    for (let x = 0; x < width; x += 1, index += 1) {
      const colour = paint(values[index], level);
      if (colour) pixels[row + (x >> shift)] = colour;
    }
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
};

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

// Values are numbers, not colours for a screen: no conversion.
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
