# For ResidualDetectionTask on HSC coadds: halos of bright stars are masked,
# where the models leave rings. On simulated HSC coadds with 0.168
# arcsec pixels recovery in grizy at 90 % purity is 46 %, against 54 % for ugrizy with
# LSST's.
config.bad_mask_planes = ["BAD", "NO_DATA", "SAT", "SUSPECT", "EDGE", "BRIGHT_OBJECT"]
