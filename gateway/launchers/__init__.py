"""Launchers: what starts and stops workers."""
