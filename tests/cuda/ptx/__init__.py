"""An interpreter of PTX on the CPU that checks bounds, initialisation, alignment, races and convergence."""
