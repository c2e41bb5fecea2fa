"""The server's side: start, enrolment, sites on other machines."""
