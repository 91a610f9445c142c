# For ResidualDetectionTask on LSSTCam coadds.
# What deep coadds know to be wrong beside the deblender's own bad planes.
config.bad_mask_planes = ["BAD", "NO_DATA", "SAT", "SUSPECT", "EDGE", "STREAK"]
