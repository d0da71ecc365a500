"""The two engines, put in order: the baseline by pyinfra, the services by Ansible."""
