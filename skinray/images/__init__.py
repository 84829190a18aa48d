"""Images and labels in numpy: decoding, manifests, folds, augmentation; no torch, no Ray."""
