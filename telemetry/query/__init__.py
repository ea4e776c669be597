"""Asking collectors: one, or several as if they were one."""
