"""Numbers, never assertions on time. Each prints ratios to a floor or peer measured in the same run."""
