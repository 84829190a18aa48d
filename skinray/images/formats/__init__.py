"""Decoders and what files declare: PNG, JPEG, TIFF; their colours, depth and orientation."""
