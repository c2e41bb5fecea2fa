"""What travels between server and sites: messages, framing, enrolment, schemas."""
