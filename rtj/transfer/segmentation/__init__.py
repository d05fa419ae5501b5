"""Semantic segmentation: a fully convolutional network and what trains and scores it.

Paper section 6.2: the base network of FCN is swapped for each classifier. The paper
gives no learning rate and no crop; gluon-cv's `train.py` for segmentation is the
public stand-in (ADE20K: 120 epochs of batch 16, rate 0.01 decayed by `rtj.tricks.poly`
and ten times that in the heads, weight decay 1e-4, crops of 480, statistics of batch
norm over the whole batch).
"""
