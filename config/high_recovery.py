# For ResidualDetectionTask with the shipped network: more sources, for a price. What is found, and
# how much of it is right, at this threshold and others, in the cases that its scores were calibrated
# on: models/mask_rcnn_ugrizy/package.yaml, results, at_threshold (cross-validated).
config.score_threshold = 0.3
