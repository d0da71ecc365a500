"""The ways to the hosts: one SSH configuration, one place that runs something there."""
