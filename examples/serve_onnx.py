"""Features and new digits from exported files, with onnxruntime and NumPy alone: neither Keras nor a backend.

pip install onnxruntime numpy
keras-umd export umd_digits --path encoder.onnx
keras-umd export umd_digits --what sampler --num-steps 20 --guidance 2 --path sampler.onnx
python examples/serve_onnx.py encoder.onnx sampler.onnx
"""

import sys

import numpy as np
import onnxruntime

encoder, sampler = map(onnxruntime.InferenceSession, sys.argv[1:3])

labels = np.arange(10, dtype="int32")
noise = np.random.default_rng(0).normal(size=(10, *sampler.get_inputs()[0].shape[1:])).astype("float32")
(images,) = sampler.run(["images"], {"noise": noise, "labels": labels})  # uint8
(features,) = encoder.run(["features"], {"images": images})

print(f"{len(images)} images of {images.shape[1:]}, {images.dtype}, and their features of {features.shape[1:]}")
for row in np.concatenate(images[..., 0], axis=1):  # side by side
    print("".join(" .:-=+*#%@"[value // 26] for value in row))
