"""Models, objectives, per-example gradients, and the maximisation that attacks and adversarial training share."""
