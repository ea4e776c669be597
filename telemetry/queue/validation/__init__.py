"""From requests on the wire to the queue's own types: every field is checked, and an error names the field."""
