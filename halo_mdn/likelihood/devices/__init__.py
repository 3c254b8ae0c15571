"""The likelihood of a field that is split over several devices."""
