"""The parts of Faster R-CNN (paper section 6.1; Ren et al. 2015, arXiv 1506.01497).

| step | file |
|---|---|
| boxes, their overlap and their encoding | `boxes` |
| the boxes that a place of the feature map stands for | `anchors` |
| which box answers for which object | `matching` |
| which boxes are trained on | `sampling` |
| from the region proposal network's outputs to boxes | `proposals` |
| removing boxes that overlap better ones | `nms` |
| features of a box | `roi_align` |
| the four losses | `losses` |
| mean average precision of Pascal VOC, on the host | `voc_map` |

All but the last are pure JAX on one image: static shapes with masks for what is not
there, float32, and `jax.vmap` for a batch. A box that its mask excludes may hold any
finite numbers, a mask and never a value says that it is not there.
"""
