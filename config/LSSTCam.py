# For ResidualDetectionTask on LSSTCam coadds.
config.bands = ["u", "g", "r", "i", "z", "y"]
# What deep coadds know to be wrong beside the deblender's own bad planes.
config.bad_mask_planes = ["BAD", "NO_DATA", "SAT", "SUSPECT", "EDGE", "STREAK"]
