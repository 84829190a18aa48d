// Pictures of one answer, decoded, and the masks that are drawn over the image.

// The colours of the overlays that the reports draw (figure 4 of the paper).
export const NERVE = [20, 70, 255];
export const BOUNDARY = [0, 190, 70];
export const CROSSING = [230, 0, 30];
const OPACITY = 0.75;

/** Decode what the viewer needs of an answer's blobs. */
export async function decode(blobs) {
  const image = await bitmap(blobs.image);
  const [nerve, boundary] = await Promise.all([grey(blobs.nerve), grey(blobs.boundary)]);
  return { image, nerve, boundary, width: image.width, height: image.height };
}

/** The file itself, to look at while it is counted; null where the browser cannot read it. */
export async function preview(file) {
  try {
    const image = await createImageBitmap(file);
    const none = new Uint8Array(0);
    return { image, nerve: none, boundary: none, width: image.width, height: image.height };
  } catch {
    return null;
  }
}

/**
 * A canvas of the pixels above a level, in one colour; with a factor, of squares of that side that
 * hold such a pixel: thin lines do not fade in a small view, and large images stay quick.
 */
export function tint(values, width, height, level, colour, factor = 1) {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const canvas = blank(columns, rows);
  const picture = new ImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer); // little endian: alpha, blue, green, red
  const paint = ((Math.round(OPACITY * 255) << 24) | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
  const shift = Math.log2(factor);
  for (let index = 0, y = 0; index < values.length; y += 1) {
    const row = (y >> shift) * columns;
    for (let x = 0; x < width; x += 1, index += 1) if (values[index] > level) pixels[row + (x >> shift)] = paint;
  }
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
