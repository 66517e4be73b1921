"""Fault tests of real Strom processes under real clients."""
