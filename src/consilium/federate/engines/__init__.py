"""What carries an exchange between server and sites."""
