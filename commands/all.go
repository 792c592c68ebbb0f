package commands

// All registers every aggregate.
func All(b *Bus) {
	registerCustomer(b)
	registerContact(b)
	registerInteraction(b)
	registerProduct(b)
	registerPipeline(b)
	registerOpportunity(b)
	registerOrder(b)
}
