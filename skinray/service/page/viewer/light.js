// Brightness and contrast of the image as shown. Neither the count nor the file changes.

import { blank } from "./layers.js";

export const asItIs = Object.freeze({ brightness: 0, contrast: 0 }); // both -100 to 100

export const isAsItIs = ({ brightness, contrast }) => brightness === 0 && contrast === 0;

/** The new value of each value 0 to 255. */
export function curve({ brightness, contrast }) {
  const slope = contrast >= 0 ? 1 + contrast / 33 : 1 + contrast / 125; // never flat
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => (value - 128) * slope + 128 + 1.28 * brightness);
}

/** The image in another light, as a canvas; the image itself where nothing changes. */
export function lit(image, light) {
  if (isAsItIs(light)) return image;
  const canvas = blank(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const picture = context.getImageData(0, 0, image.width, image.height);
  const { data } = picture;
  const values = curve(light);
  for (let index = 0; index < data.length; index += 4) {
    data[index] = values[data[index]];
    data[index + 1] = values[data[index + 1]];
    data[index + 2] = values[data[index + 2]];
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
