# For ResidualDetectionTask with the shipped network: few spurious peaks.
# On simulated ten-year coadds 97 % (default population) to 99 % (2.5 times
# denser) of the new peaks are right, and 44 to 31 % of the sources to be found
# are; the default threshold gives 91 to 96 % and 54 to 45 %. From the
# candidates of
#   residualdetect evaluate -n 30 --population dense --population default
config.score_threshold = 0.95
