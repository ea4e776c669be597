"""Alerts as REST and event streams tell them: asked of the alerting service, watched, and put into JSON."""
