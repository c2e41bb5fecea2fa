"""The smallest perturbation: walks to the nearest point where the answer reaches the goal."""
