"""What reacts: species, rate laws, reactions, events and rules, without any array library."""
