# For ResidualDetectionTask with the shipped network: more sources, for a price.
# On simulated ten-year coadds 59 % (default population) to 53 % (2.5 times
# denser) of the sources to be found are found, and 83 to 90 % of the new peaks
# are right; the default threshold gives 54 to 45 % and 91 to 96 %. From the
# candidates of
#   residualdetect evaluate -n 30 --population dense --population default
config.score_threshold = 0.6
