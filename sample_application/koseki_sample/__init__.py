"""A stand-in for the vendor's family-register application: invented registers, real traffic."""
