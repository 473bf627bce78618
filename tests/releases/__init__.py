"""Every release that can be had here, built for real."""
