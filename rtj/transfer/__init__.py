"""Transfer learning (paper section 6): other tasks on the classifiers' networks."""
