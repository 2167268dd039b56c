"""Claims about models of which the sources hold an abstract."""
