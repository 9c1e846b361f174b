"""`reflexarc bench`: what this machine can do, measured on the real runtimes. Figures are printed, never asserted."""
