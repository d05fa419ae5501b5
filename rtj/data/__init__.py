"""Data: sources, decoding, the host pipeline and device-side augmentation.

`sources` opens a data set, `pipeline` turns it into uint8 batches whose order is
`order`, `augment` runs inside the jitted step. Import the modules: `augment` does
not pull in Grain, and nothing here pulls in TensorFlow.
"""
