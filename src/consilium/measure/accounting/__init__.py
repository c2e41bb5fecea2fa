"""Privacy accounting: epsilon of composed mechanisms, and the noise that meets a target epsilon."""
