"""Who does the stages of a plan: this process, others of this machine, or other machines."""
